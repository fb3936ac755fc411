"""The record: tables, claims, queries and exports. Knows SQLAlchemy and the observation kinds, no oracle."""
