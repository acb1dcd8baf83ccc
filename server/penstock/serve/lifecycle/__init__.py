"""What becomes of registered models on this server: what the registry wants is loaded, proven, routed and let go."""

from penstock.serve.lifecycle.following import Following
from penstock.serve.lifecycle.lifecycle import LifecycleOptions, RegistryLifecycle
from penstock.serve.lifecycle.repository import RepositoryFolder

__all__ = ["Following", "LifecycleOptions", "RegistryLifecycle", "RepositoryFolder"]
