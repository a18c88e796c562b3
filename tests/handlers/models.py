from __future__ import annotations

from django.db import models


class Agent(models.Model):
    """Has a balance that handlers of parcels change."""

    name = models.CharField(max_length=50)
    balance = models.IntegerField(default=0)


class Shipment(models.Model):
    """Tests connect handlers to its signals."""

    number = models.CharField(max_length=50)
    agent = models.ForeignKey(Agent, null=True, on_delete=models.SET_NULL)
    stops = models.ManyToManyField(Agent, related_name="stops")


class Express(Shipment):
    """A child of a model with handlers."""

    hours = models.IntegerField(default=24)
