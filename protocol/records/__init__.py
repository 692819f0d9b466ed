"""The records that travel, one module a family; import them from their modules."""
