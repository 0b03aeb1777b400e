"""Words of the generated world: every name is one or two words, so that small policies can copy it."""

from __future__ import annotations

from itertools import product


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words(
    "Ada Alma Anton Aurel Basil Beata Bruno Cato Celia Clara Conrad Cora Cyril Dora Edgar Edith Elias Elsa Emil "
    "Enid Ernst Esther Felix Flora Fritz Gerda Greta Gustav Hanna Hector Hilda Hugo Ida Ines Ivo Jonas Julia Karl "
    "Lena Leo Linus Lotte Magda Marius Max Mina Nadia Nils Nora Olga Oskar Otto Paula Petra Ralf Rosa Rufus "
    "Silvia Simon Thea Tilda Ugo Vera Viktor"
)
MONTHS = _words("January February March April May June July August September October November December")
RIVERS = _words(
    "Alder Bure Calder Dove Esk Findhorn Garry Humber Isla Jed Kennet Lune Medway Nith Orwell Plym Quair Ribble "
    "Severn Tamar Ure Vyrnwy Wye Yare Adur Brede Cuckmere Deben Exe Fal Goyt Hodder Irwell Kelvin Leven Mole Nene "
    "Otter Parrett Rother"
)
REGIONS = _words(
    "Avaria Borland Cestria Dunmark Elmeria Fenland Gallovia Harvia Istria Jutmark Kestland Lorania Mercia Norvia "
    "Ostia Pellonia Quirmark Rovania Sarmia Tarvia Umbria Valdonia Westmark Zelland"
)
OCCUPATIONS = _words(
    "novelist poet painter composer sculptor architect botanist chemist surgeon lawyer pilot singer dancer photographer"
)
INSTITUTES = _words("Institute Observatory Academy Museum Library Theatre")
"""What an organisation can be."""

KINDS: dict[str, tuple[str, str]] = {
    "novel": ("wrote", "author"),
    "film": ("directed", "director"),
    "song": ("composed", "composer"),
    "opera": ("composed", "composer"),
    "painting": ("painted", "painter"),
}
"""What a work can be: what its creator did, and what the creator is called."""

_ADJECTIVES = _words(
    "Amber Broken Bronze Burning Crimson Crooked Distant Drifting Empty Faded Fallen Frozen Gilded Glass Golden "
    "Grey Hidden Hollow Idle Iron Ivory Last Little Lonely Lost Marble Midnight Narrow Pale Paper Patient Quiet "
    "Restless Rising Sacred Scarlet Secret Silent Silver Sleeping Stolen Sunken Tender Velvet Wandering White "
    "Wild Winter"
)
_NOUNS = _words(
    "Arrow Bell Bridge Candle Castle Clock Compass Cradle Crown Dancer Dream Echo Feather Ferry Fiddle Flame "
    "Forest Fountain Garden Gate Harbor Harvest Horizon Hour Island Journey Kite Ladder Lantern Letter Lighthouse "
    "Meadow Mirror Mountain Needle Nest Oath Orchard Palace Promise River Road Sail Shadow Shepherd Sparrow "
    "Station Storm Tower Traveler Valley Village Voyage Wall Window Witness"
)
_ROOTS = _words(
    "Ash Black Bright Cold Copper Crow Elder Fair Flint Fox Green Hart Hazel Lake Linden Mill Oak Raven Red Rose "
    "Salt Stone Swan Wolf"
)
_SURNAME_ENDS = ("man", "ley", "more", "well", "son", "grave")
_CITY_ENDS = ("ford", "bury", "haven", "mouth", "wick", "stead")

SURNAMES = tuple(root + end for root, end in product(_ROOTS, _SURNAME_ENDS))
CITIES = tuple(root + end for root, end in product(_ROOTS, _CITY_ENDS))
TITLES = tuple(f"The {adjective} {noun}" for adjective, noun in product(_ADJECTIVES, _NOUNS))
