"""Other ways to serve the same model, for `sfumato bench served --peer`."""
