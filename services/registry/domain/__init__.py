"""The rules of the registry, pure: what a deployment may become, what a control record says."""
