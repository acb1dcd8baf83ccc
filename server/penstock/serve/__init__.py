"""The processes of a server: what starts them, watches them and stops them."""

from penstock.serve.supervisor import Supervisor
from penstock.serve.worker_group import RestartPolicy

__all__ = ["RestartPolicy", "Supervisor"]
