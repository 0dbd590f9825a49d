"""A report that is open in a real browser, and where this is."""

import json
import shutil

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

DESKTOP, PHONE = (1280, 900), (390, 800)
SECONDS = 20  # that something may take until it is taken never to come


def browser_programs():
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None), shutil.which("chromedriver")


class Page:
    """A report that is open in the browser."""

    def __init__(self, driver, path, size=DESKTOP, *, scheme="light"):
        self.driver = driver
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        for log in ("browser", "performance"):
            driver.get_log(log)  # of the page before
        driver.get(path.as_uri())
        if self.run("return localStorage.length"):  # what another test chose
            self.run("localStorage.clear()")
            driver.refresh()
        self.run("document.getElementById('images').scrollIntoView()")
        self.wait(lambda: self.run("return document.querySelector('.card[data-drawn]') !== null"))

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition):
        WebDriverWait(self.driver, SECONDS, poll_frequency=0.05).until(lambda _: condition())

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def choose(self, selector, value):
        Select(self.one(selector)).select_by_value(value)

    def ids(self):
        return self.run("return [...document.querySelectorAll('.card')].map((card) => card.dataset.id)")

    def press(self, *keys):
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def overlay_opacities(self):
        script = "return [...document.querySelectorAll('.over')].map((image) => getComputedStyle(image).opacity)"
        return {float(opacity) for opacity in self.run(script)}

    def background(self):
        return self.run("return getComputedStyle(document.body).backgroundColor")


def assert_quiet(page):
    """Every picture near the view is there, the console is empty, and nothing was asked but of the disk."""
    script = (
        "return [...document.querySelectorAll('.card[data-drawn] img')].slice(0, 60).every((i) => i.naturalWidth > 0)"
    )
    page.wait(lambda: page.run(script))
    assert page.driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)
