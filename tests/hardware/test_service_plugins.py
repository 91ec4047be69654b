"""Services of plugins: chosen for a plan by their name, and everything a plan does goes through them."""

from __future__ import annotations

import json

import pytest
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError, PluginError, ServiceError
from qhybrid.hardware import JobService, register_service
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.pub_results import MEANS_FORMAT
from qhybrid.hardware.services.backends import SERVICES, is_paid, local_backend, make_service
from qhybrid.hardware.services.interface import DONE, Listed, View
from qhybrid.hardware.services.local import LocalService
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.mitigations import MITIGATIONS, DeviceForm, register_mitigation


class MemoryService(JobService):
    """Executes jobs at once and keeps results in memory."""

    paid = True
    jobs: dict = {}  # noqa: RUF012 - shared by all that are made, as a server's would be

    def submit(self, package):
        pubs = [
            {"means": [m.tolist() for m in Simulation().means(pub, package.shots, 3, pub.variant)]}
            for pub in package.pubs
        ]
        name = f"memory-{len(self.jobs)}"
        self.jobs[name] = (package, json.dumps({"format": MEANS_FORMAT, "pubs": pubs}))
        return name

    def find(self, tag):
        return [Listed(name, job.tags) for name, (job, _) in self.jobs.items() if tag in job.tags]

    def view(self, job_id):
        if job_id not in self.jobs:
            raise ServiceError(f"no job {job_id}")
        return View(DONE)

    def result_text(self, job_id):
        return self.jobs[job_id][1]

    def cancel(self, job_id):
        return False

    def usage(self, job_id):
        return 1.5


@pytest.fixture
def memory():
    MemoryService.jobs.clear()
    opened = []

    def backend(settings):
        opened.append(settings.backend)
        return local_backend(settings.model_copy(update={"backend": "fake_manila"}))

    with SERVICES.restored():
        register_service("memory", lambda settings, folder: MemoryService(), backend, description="a test's")
        yield opened


def test_a_plan_runs_on_the_service_that_it_names(memory, tmp_path):
    workload = map_workload(2)
    settings = quick(backend="my_device", service="memory", shots=5000)
    folder = make_plan(workload, settings, tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["settings"]["service"] == "memory"
    assert memory == ["my_device"]
    with open_plan(folder, lambda *_: workload) as execution:
        outputs = execution.run()
        found = write_outcome(execution, outputs)
    ((package, _),) = MemoryService.jobs.values()
    assert package.shots == 5000
    assert found["samples"] == 2
    assert found["status"]["qpu_seconds_billed"] == 1.5
    # As the calibration of the same device predicts.
    assert abs(found["logit_deviation_rms"]) < 1
    assert (folder / "results" / "calibration.yaml").is_file()


def test_names_of_services(memory, tmp_path):
    with pytest.raises(HardwareError, match="setting `service`: service 'memroy'.*Did you mean `memory`"):
        make_plan(map_workload(1), quick(service="memroy"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PluginError, match="already named `local`"):
        register_service("local", lambda settings, folder: MemoryService())
    assert is_paid("fake_manila", "memory")
    assert not is_paid("fake_manila")
    assert is_paid("ibm_torino")
    assert isinstance(make_service(HardwareSettings(backend="aer"), tmp_path), LocalService)


def test_extra_circuits_of_a_mitigation_are_priced_and_used(tmp_path):
    """A method that continues two strengths linearly to none is `zne` with the factors 1 and 3."""

    def estimate(readings):
        assert readings.folds == (1, 3)
        factors = (1.5, -0.5)
        means = sum(c * part for c, part in zip(factors, readings.means, strict=True))
        return means, sum(c * c * part for c, part in zip(factors, readings.variances, strict=True))

    workload = map_workload(2)
    with MITIGATIONS.restored():
        form = DeviceForm(folds=(1, 3), estimate=estimate)
        register_mitigation("own", lambda make, profile: make(profile, 0), label="own", device=form)
        found = {}
        for name in ("zne", "own"):
            folder = make_plan(workload, quick(mitigation=name), tmp_path)
            content = json.loads((folder / "plan.json").read_text())
            with open_plan(folder, lambda *_: workload) as execution:
                found[name] = (content["rounds"][0]["executions"], execution.run())
    points, bases, strengths = 2, 2, 2
    assert found["own"][0] == found["zne"][0] == points * bases * strengths * 400
    assert found["own"][1].equal(found["zne"][1])


@pytest.mark.parametrize(
    ("estimate", "message"),
    [
        (lambda readings: 1 / 0, "`own` fails: ZeroDivisionError"),
        (
            lambda readings: (readings.means[0, 0], readings.variances[0]),
            "means and variances of shape",
        ),
        (lambda readings: (readings.means[0] * float("nan"), readings.variances[0]), "must return finite"),
    ],
)
def test_a_mitigation_that_fails_is_told_before_anything_is_planned(estimate, message, tmp_path):
    with MITIGATIONS.restored():
        form = DeviceForm(estimate=estimate)
        register_mitigation("own", lambda make, profile: make(profile, 0), label="own", device=form)
        with pytest.raises(HardwareError, match=message):
            make_plan(map_workload(1), quick(mitigation="own"), tmp_path)
    assert list(tmp_path.iterdir()) == []
