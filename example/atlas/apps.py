from django.apps import AppConfig


class AtlasConfig(AppConfig):
    """Countries and cities of the world."""

    name = "atlas"
