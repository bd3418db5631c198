"""What surrounds one `model.fit`: devices, precision, callbacks, memory."""
