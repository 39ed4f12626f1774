"""The official archives: where they are, resumable and verified downloads (`http`), and safe unpacking (`unpack`)."""
