"""The processes of a server: what starts them, watches them and stops them."""

from penstock.serve.model_workers import RestartPolicy
from penstock.serve.supervisor import Supervisor

__all__ = ["RestartPolicy", "Supervisor"]
