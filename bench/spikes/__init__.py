"""Measurements that settled a decision once, kept so that they can be repeated: each names its ADR."""
