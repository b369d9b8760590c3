from dataclasses import asdict

from django.http import HttpRequest, JsonResponse
from django.urls import path

from shop.cron import cron


def trigger(_: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse(dict(cron.jobs.trigger(name)), status=202)


def runs(_: HttpRequest, name: str) -> JsonResponse:
    found = cron.runs.list(job=name, limit=20)
    return JsonResponse({"runs": [{"id": run.id, "state": run.state} for run in found]})


def health(_: HttpRequest) -> JsonResponse:
    found = cron.health()
    return JsonResponse(asdict(found), status=200 if found.ok else 503)


urlpatterns = [
    path("jobs/<str:name>/trigger", trigger),
    path("jobs/<str:name>/runs", runs),
    path("health", health),
]
