"""What the four services share: contracts, the fold, hosts, clients. `services/` stands on it, never back."""

__version__ = "0.1.0"
