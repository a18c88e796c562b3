"""The page with the buttons to synchronize and to reset."""

from django.views.generic import TemplateView


class SynchroView(TemplateView):
    """Shows the state of synchronization, and the buttons."""

    template_name = "synchro/synchro.html"
