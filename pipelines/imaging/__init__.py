"""What happens to a picture after the model: encoding, thumbnail, preview, metadata. CPU only."""
