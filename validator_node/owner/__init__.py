"""The subnet owner's signed changes of the catalogue, from the owner's keyboard to a batch.

`pool` holds what waits to be ordered, `gossip` brings it in and passes it on, `queries` tells
anybody where a challenge stands; `publisher` is the owner's side, with the key of `key_file`.
"""
