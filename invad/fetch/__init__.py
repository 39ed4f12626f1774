"""Files from the network onto the disk: resumable, verified downloads (`http`) and safe unpacking (`archives`)."""
