"""The browser that tests of pages use."""

import os
import warnings

import pytest


@pytest.fixture(scope="module")
def driver():
    # Not at the top: the golden tests of this folder run on a machine without Selenium, too (docs/gpu.md).
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    from tests.tool.report_page import SECONDS, browser_programs

    program, driver_program = browser_programs()
    if program is None or driver_program is None:
        reason = "NO BROWSER: the report is not tested; install chromium and chromium-driver"
        if os.environ.get("HSC_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # A container has no sandbox for root, and little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_program))
    driver.set_script_timeout(SECONDS * 10)  # axe-core looks at everything
    yield driver
    driver.quit()
