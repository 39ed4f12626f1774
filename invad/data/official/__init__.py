"""The official archives: where they are (`releases`), how they come (`http`) and are unpacked (`unpack`), and all of it (`store`)."""
