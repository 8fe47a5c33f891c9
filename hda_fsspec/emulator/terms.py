"""The licences of the service: ids as it has them, titles and texts for people."""

from __future__ import annotations

from typing import Any

from hda_fsspec.emulator.catalogue import Catalogue

#: Ids seen at the service.
KNOWN_TERMS = (
    "Copernicus_General_License",
    "Copernicus_Sentinel_License",
    "EUMETSAT_Core_Products_Licence",
    "EUMETSAT_Copernicus_Data_Licence",
    "Copernicus_DEM_Instance_COP-DEM-GLO-90-F_Global_90m",
    "Copernicus_DEM_Instance_COP-DEM-GLO-30-F_Global_30m",
    "Copernicus_ECMWF_License",
    "Copernicus_Land_Monitoring_Service_Data_Policy",
    "Copernicus_Marine_Service_Product_License",
    "CNES_Open_2.0_ETALAB_Licence",
)


def known_terms(catalogue: Catalogue) -> list[str]:
    """Return the ids of all licences: those of the service, and others of the catalogue."""
    own = [term for dataset in catalogue for term in dataset.terms]
    return list(dict.fromkeys([*KNOWN_TERMS, *own]))


def describe(term: str) -> dict[str, Any]:
    """Return a licence as ``terms`` answers it; its abstract is HTML with a link."""
    title = term.replace("_", " ")
    link = f"https://licences.example/{term}.pdf"
    abstract = f'<p>{title}. The full text is <a href="{link}">here</a>.</p>'
    return {"term_id": term, "title": title, "abstract": abstract}
