"""How operators are told of models and moments, in the terminal and in the admin alike."""

from __future__ import annotations

from datetime import datetime

from django.contrib.contenttypes.models import ContentType
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import ngettext

from synchro.registry import model_label


def label_of(content_type: ContentType) -> str:
    """Return the label of a model, also of one that is no longer installed."""
    model = content_type.model_class()
    return model_label(model) if model else f"{content_type.app_label}.{content_type.model}"


def moment_text(moment: datetime) -> str:
    """Return a moment to the second, in the site's time zone; many changes happen in a minute."""
    here = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return date_format(here, "Y-m-d H:i:s")


def retried(count: int) -> str:
    """Tell how many changes are tried again."""
    sentence = ngettext("%(count)d change is tried again now.", "%(count)d changes are tried again now.", count)
    return sentence % {"count": count}


def discarded(count: int) -> str:
    """Tell how many changes were discarded."""
    sentence = ngettext("%(count)d change was discarded.", "%(count)d changes were discarded.", count)
    return sentence % {"count": count}
