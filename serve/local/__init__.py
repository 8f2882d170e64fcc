"""A real Postgres and a real Valkey under the data folder, for a machine that has neither."""
