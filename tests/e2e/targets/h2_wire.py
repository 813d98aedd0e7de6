# SPDX-License-Identifier: BSD-2-Clause
"""What header blocks say to somebody who saw a connection from its start, and to one who joined it.

HPACK's decoder (Debian's python3-hpack) reads every block a second time; at the join, the entries of
its table become Old, and so does what refers to them.
"""

import collections

import hpack


class Old(bytes):
    """A name or value that was sent before the join."""


class _Shadow(hpack.Decoder):
    def __init__(self):
        super().__init__()
        self.max_allowed_table_size = 1 << 20
        self.blocks = collections.deque()  # not asked for yet
        self._fields = []

    def _decode_indexed(self, data):
        field, size = super()._decode_indexed(data)
        self._fields.append(field)
        return field, size

    def _decode_literal(self, data, should_index):
        field, size = super()._decode_literal(data, should_index)
        self._fields.append(field)
        return field, size

    def take(self, block):
        self._fields = []
        self.decode(block, raw=True)
        self.blocks.append([
            [bytes(name).decode(), bytes(value).decode(), not isinstance(name, Old),
             not isinstance(value, Old)] for name, value in self._fields])

    def age(self):
        entries = self.header_table.dynamic_entries
        for i, (name, value) in enumerate(entries):
            entries[i] = (Old(bytes(name)), Old(bytes(value)))


class Wire:
    """Watches the blocks of an h2 connection: sent() and received() give the next one's fields, as
    [name, value, whether the name is known to who joined, whether the value is]."""

    def __init__(self, connection):
        self._sent, self._received = _Shadow(), _Shadow()
        encode, decode = connection.encoder.encode, connection.decoder.decode

        def sending(headers, huffman=True):
            block = encode(headers, huffman)
            self._sent.take(block)
            return block

        def receiving(data, raw=False):
            self._received.take(bytes(data))
            return decode(data, raw)
        connection.encoder.encode, connection.decoder.decode = sending, receiving

    def sent(self):
        return self._sent.blocks.popleft()

    def received(self):
        return self._received.blocks.popleft()

    def join(self):
        for shadow in (self._sent, self._received):
            shadow.age()
