"""Self-supervised methods: one file and one YAML each, one protocol, one registry."""
