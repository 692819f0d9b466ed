"""The records of the DHT and the rules by which they are judged."""

from validator_node.records.book import RecordBook, make_rules
from validator_node.records.errors import RecordError
from validator_node.records.rules import MAX_VALUE_BYTES

__all__ = [
    "MAX_VALUE_BYTES",
    "RecordBook",
    "RecordError",
    "make_rules",
]
