"""Finding the other nodes: the address book, who is kept connected, and the service behind it.

`AddressBook` holds signed node records, `Neighbours` chooses whom to keep connected, and
`Discovery` exchanges records over gossip and requests.
"""
