"""The code lists are those of ISO, as pycountry has them."""

import pycountry

from ingest.iso import COUNTRIES, CURRENCIES


def test_currencies_are_those_of_iso_4217() -> None:
    assert {currency.alpha_3 for currency in pycountry.currencies} == CURRENCIES


def test_countries_are_those_of_iso_3166_1() -> None:
    assert {country.alpha_2 for country in pycountry.countries} == COUNTRIES
