"""The things the model can draw: a name, its icon, and other words for it."""

from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (224, 40, 48),
    "orange": (246, 138, 30),
    "yellow": (252, 208, 40),
    "green": (64, 168, 72),
    "blue": (44, 116, 222),
    "purple": (144, 76, 200),
    "pink": (250, 130, 184),
    "brown": (136, 86, 52),
    "black": (36, 36, 42),
    "gray": (140, 145, 152),
}
"""Colour word to sRGB, 0 to 255."""


@dataclass(frozen=True)
class Concept:
    """One thing to draw.

    `icon` is its name in the icon sets, `synonyms` are further words a prompt may use, `shape`
    marks plain shapes that come in every colour.
    """

    name: str
    icon: str
    synonyms: tuple[str, ...] = ()
    shape: bool = False


_ICONS = """
dog            dog-face                puppy
cat            cat-face                kitten, kitty
lion           lion
tiger          tiger-face
bear           bear
panda          panda
koala          koala
fox            fox
rabbit         rabbit-face             bunny
pig            pig-face
cow            cow-face
monkey         monkey-face
unicorn        unicorn
dragon         dragon-face
frog           frog
chick          front-facing-baby-chick baby chick
penguin        penguin
owl            owl
duck           duck
elephant       elephant
giraffe        giraffe
turtle         turtle                  tortoise
snake          snake
fish           tropical-fish
whale          spouting-whale
octopus        octopus
crab           crab
butterfly      butterfly
bee            honeybee                honeybee
ladybug        lady-beetle             ladybird
smiley         grinning-face-with-big-eyes smiling face, happy face
heart eyes     smiling-face-with-heart-eyes face with heart eyes, love face
cool face      smiling-face-with-sunglasses face with sunglasses
crying face    loudly-crying-face      sad face
angry face     pouting-face            mad face
ghost          ghost
alien          alien
robot          robot
skull          skull
apple          red-apple
banana         banana
orange         tangerine               tangerine
lemon          lemon
strawberry     strawberry
cherries       cherries                cherry
grapes         grapes
watermelon     watermelon
pineapple      pineapple
tomato         tomato
carrot         carrot
mushroom       mushroom
fried egg      cooking                 egg
hamburger      hamburger               burger
fries          french-fries            french fries
pizza          pizza
popcorn        popcorn
ice cream      soft-ice-cream
donut          doughnut                doughnut
cake           birthday-cake           birthday cake
coffee         hot-beverage            cup of coffee, cup of tea
beer           beer-mug                glass of beer
rose           rose
tulip          tulip
sunflower      sunflower
flower         cherry-blossom          cherry blossom
cactus         cactus
tree           deciduous-tree
pine tree      evergreen-tree          fir tree
palm tree      palm-tree               palm
car            automobile
bus            bus
truck          delivery-truck
train          locomotive
airplane       airplane                plane
rocket         rocket
ufo            flying-saucer           flying saucer
house          house                   home
castle         castle
mountain       snow-capped-mountain
sun            sun
moon           crescent-moon           crescent moon
cloud          cloud
rainbow        rainbow
snowflake      snowflake
lightning      high-voltage            lightning bolt
fire           fire                    flame
water drop     droplet                 drop of water
umbrella       umbrella
snowman        snowman-without-snow
earth          globe-showing-americas  globe
balloon        balloon
gift           wrapped-gift            present
crown          crown
key            key
lock           locked                  padlock
pencil         pencil
light bulb     light-bulb              lamp
camera         camera
guitar         guitar
soccer ball    soccer-ball             football
basketball     basketball
trophy         trophy
diamond        gem-stone               gem
hat            top-hat                 top hat
shirt          t-shirt                 t-shirt
pumpkin        jack-o-lantern          halloween pumpkin
"""
"""Name, icon and synonyms, apart by two blanks or more (a long icon name by one)."""

_SHAPES = """
heart    red-heart
circle   red-circle
square   red-square
triangle red-triangle-pointed-up
star     star
"""


def concepts() -> list[Concept]:
    """Every concept, shapes last."""
    found = []
    for line in _ICONS.strip().splitlines():
        name, rest = line[:15].strip(), line[15:].strip()
        icon, _, synonyms = rest.partition(" ")
        words = tuple(word.strip() for word in synonyms.split(",") if word.strip())
        found.append(Concept(name, icon, words))
    for line in _SHAPES.strip().splitlines():
        name, icon = line.split()
        found.append(Concept(name, icon, shape=True))
    return found
