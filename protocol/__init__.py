"""The words everyone speaks: codec, keys, envelopes, records. Imports nothing of the product."""
