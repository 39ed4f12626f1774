"""The official archives of a data set: how they come (`http`), are unpacked (`unpack`), and all of it (`store`)."""
