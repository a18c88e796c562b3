"""The synchronization page: ``path("synchro/", include("synchro.urls"))``."""

from django.urls import path

from synchro.views import SynchroView

app_name = "synchro"

urlpatterns = [path("", SynchroView.as_view(), name="synchro")]
