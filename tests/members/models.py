"""A project's own user model, and what points to it. Only the settings beside it have these."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models


class Member(AbstractUser):
    """Logs in with an email address, which is its natural key."""

    username = None  # type: ignore[assignment]  # as Django's documentation removes a field
    email = models.EmailField(unique=True)
    sponsor = models.ForeignKey("self", null=True, on_delete=models.SET_NULL)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []


class Post(models.Model):
    """Points to whatever is the user model."""

    title = models.CharField(max_length=50)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    readers = models.ManyToManyField(settings.AUTH_USER_MODEL)
