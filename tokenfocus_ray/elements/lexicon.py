"""Words by type: what tells a colour from a shape, an animal from a thing, a place from both.

Lists, since they are few, quick, and can be read; a word that stands in none is an ``object`` or an
``attribute``, which is what most are.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


COLORS = words(
    """red orange yellow green blue purple pink brown black white gray grey gold golden silver
    beige cyan magenta violet turquoise teal maroon navy crimson scarlet lavender indigo tan
    ivory bronze copper lime olive coral amber burgundy khaki mauve fuchsia aqua azure emerald
    peach cream charcoal ochre sepia rainbow multicolored multicoloured colorful colourful
    colored coloured reddish bluish greenish yellowish pinkish blonde blond brunette auburn
    monochrome pastel neon"""
)
MATERIALS = words(
    """wood wooden metal metallic glass plastic stone marble brick concrete leather cotton wool
    woolen woollen silk velvet denim linen paper cardboard ceramic porcelain clay steel iron brass
    aluminum aluminium rubber straw bamboo wicker ice snow crystal diamond granite sandstone fur
    furry fabric cloth knitted felt lace copper bronze golden silver mahogany oak pine terracotta
    chrome titanium foil wax jade pearl satin suede tile tiled thatched gravel cobblestone lego
    origami crochet yarn"""
)
SHAPES = words(
    """round circular square rectangular triangular oval cubic cubical spherical cylindrical
    conical hexagonal octagonal pentagonal heart-shaped star-shaped dragon-shaped curved straight
    spiral pyramidal l-shaped u-shaped v-shaped t-shaped diamond-shaped dome-shaped crescent
    pointed pointy flat zigzag rhombic elliptical"""
)
#: What stands before a noun without an image being able to show it.
INVISIBLE = words(
    """other same such own certain particular main overall different various own next last first
    second third single nearby only entire whole actual similar respective usual additional
    just also even"""
)
MANY = words("several many few multiple numerous countless various dozens hundreds")
HUMANS = words(
    """man woman person boy girl child kid baby infant toddler teenager adult lady gentleman guy
    people men women children kids human couple family friend crowd player artist chef cook baker
    doctor nurse teacher student soldier knight king queen prince princess wizard witch warrior
    pirate astronaut cowboy clown dancer singer musician guitarist violinist pianist drummer
    saxophonist farmer fisherman sailor pilot driver rider cyclist biker skier snowboarder surfer
    skateboarder skater runner jogger hiker climber swimmer athlete gymnast boxer wrestler golfer
    batter pitcher catcher photographer painter sculptor librarian barista waiter waitress
    bartender mechanic carpenter gardener florist beekeeper scientist detective magician monk nun
    priest bride groom policeman policewoman firefighter officer worker businessman businesswoman
    tourist customer audience mother father mom dad parent grandmother grandfather grandma grandpa
    brother sister son daughter twin model actor actress performer juggler acrobat ninja samurai
    viking vampire mermaid fairy elf dwarf superhero hunter shepherd blacksmith potter tailor
    barber engineer builder vendor seller shopper passenger pedestrian referee coach guest
    neighbor stranger angel goddess god emperor empress archer spectator hitchhiker student
    lifeguard plumber judge lawyer dentist veterinarian scholar poet writer author reader"""
)
ANIMALS = words(
    """animal cat kitten dog puppy bird horse pony foal cow calf bull ox sheep lamb goat pig piglet
    hog boar chicken hen rooster duck duckling goose swan turkey rabbit bunny hare mouse rat
    hamster squirrel chipmunk beaver otter badger raccoon skunk fox wolf bear cub panda koala
    kangaroo lion lioness tiger leopard cheetah jaguar panther lynx elephant giraffe zebra rhino
    rhinoceros hippo hippopotamus monkey ape gorilla chimpanzee orangutan lemur sloth deer elk moose
    reindeer antelope gazelle bison buffalo camel llama alpaca donkey mule whale dolphin shark fish
    goldfish salmon tuna trout octopus squid jellyfish crab lobster shrimp seal walrus penguin
    turtle tortoise frog toad lizard gecko iguana chameleon snake crocodile alligator dinosaur
    dragon unicorn phoenix griffin pegasus insect bug butterfly moth bee bumblebee wasp ant spider
    beetle ladybug dragonfly fly mosquito caterpillar worm snail slug scorpion owl eagle hawk
    falcon vulture parrot toucan flamingo peacock pigeon dove seagull gull crow raven sparrow robin
    hummingbird woodpecker ostrich emu stork heron crane pelican bat hedgehog porcupine armadillo
    meerkat hyena coyote ferret weasel mole corgi poodle labrador retriever bulldog husky beagle
    dachshund pomeranian chihuahua terrier tabby cattle livestock pet creature hound
    mammal reptile starfish seahorse stingray eel cockatoo parakeet canary pup t-rex tyrannosaurus
    triceratops anteater platypus wombat yak"""
)
FOODS = words(
    """food apple orange banana pear peach plum cherry grape strawberry blueberry raspberry berry
    lemon lime mango pineapple watermelon melon kiwi coconut avocado fruit vegetable veggie carrot
    broccoli potato tomato onion garlic pepper cucumber lettuce cabbage spinach mushroom corn pea
    bean rice pasta spaghetti noodle bread toast bagel croissant bun roll sandwich burger hamburger
    cheeseburger hotdog pizza taco burrito sushi salad soup stew steak meat beef pork ham bacon
    sausage egg omelette cheese butter cake cupcake pie pastry cookie biscuit donut
    doughnut muffin pancake waffle brownie pudding chocolate candy dessert ice-cream popcorn chip
    fry cracker cereal oatmeal honey jam sauce ketchup mustard pepperoni frosting icing sprinkle
    coffee tea juice milk beer wine cocktail lemonade smoothie soda drink beverage meal
    breakfast lunch dinner snack dumpling ramen curry kebab tofu nut almond peanut walnut olive
    pumpkin squash eggplant zucchini herb spice lasagna pretzel macaron jelly syrup gingerbread"""
)
LOCATIONS = words(
    """beach park street road city town village forest jungle desert mountain hill valley field
    meadow garden yard backyard farm lake river ocean sea pond stream creek waterfall island
    shore coast coastline riverbank sky space room bedroom kitchen bathroom classroom office
    library museum gallery restaurant cafe bar pub club store shop supermarket market mall school
    hospital church temple hotel airport station harbor port dock pier
    stadium arena court gym theater theatre cinema studio warehouse factory laboratory lab alley
    sidewalk highway intersection plaza downtown suburb neighborhood countryside wilderness woods
    swamp cave cavern canyon cliff glacier volcano prairie savanna savannah tundra rainforest
    underwater planet galaxy universe cityscape landscape seascape skyline hallway corridor
    attic basement garage balcony terrace patio rooftop porch courtyard playground zoo aquarium
    circus fair festival party wedding bakery brewery winery vineyard orchard greenhouse campsite
    camp battlefield graveyard cemetery prison dungeon runway subway tunnel kingdom country
    world environment area nook corner lobby yard lawn driveway parking-lot lot horizon
    slope trail path farmland riverside lakeside seaside bookstore bookshop pharmacy bank salon
    spa stage ballroom dining-room living-room bay lagoon reef paris london tokyo venice
    manhattan york francisco"""
)
#: Whole names that are not of the type of their last word, or whose first word is no attribute.
NAMES: dict[str, str] = {
    "teddy bear": "object", "hot dog": "food", "computer mouse": "object", "rubber duck": "object",
    "potted plant": "object", "stuffed animal": "object", "polar bear": "animal",
    "ice cream": "food", "living room": "location", "dining room": "location",
    "dining table": "object", "french fries": "food", "remote control": "object",
    "high heels": "object", "steering wheel": "object", "swimming pool": "location",
    "washing machine": "object", "grand piano": "object", "electric guitar": "object",
    "golden retriever": "animal", "frying pan": "object", "cutting board": "object",
    "watering can": "object", "shooting star": "object", "parking lot": "location",
    "parking meter": "object", "metal detector": "object",
    "snow man": "object", "ice skates": "object", "ice rink": "location",
    "snow globe": "object", "paper clip": "object", "wine glass": "object",
    "rolling pin": "object", "sewing machine": "object", "roller coaster": "object",
    "hot air balloon": "object", "traffic light": "object", "rocking chair": "object",
    "northern lights": "object", "milky way": "object", "big ben": "object",
    "times square": "location", "wild west": "location", "solar system": "location",
    "gas station": "location", "space station": "object", "tennis court": "location",
    "coffee table": "object", "coffee cup": "object", "coffee mug": "object",
    "tea cup": "object", "tea pot": "object", "wine bottle": "object", "beer bottle": "object",
    "piggy bank": "object", "toy car": "object", "horse race": "activity",
    "fire hydrant": "object", "stop sign": "object",
    "iron man": "human", "gold fish": "animal", "iron throne": "object",
    "gummy bear": "food", "ice cube": "object", "ice cubes": "object", "cell phone": "object",
    "lightning bolt": "object", "wind turbine": "object",
}  # fmt: skip
#: Nouns that name no thing in the picture.
NO_THINGS = words(
    """way style kind type sort lot variety number amount background foreground front back side
    left right top bottom middle center centre midst view angle perspective pov motion detail
    details quality resolution image picture photo photograph photography shot scene depiction
    illustration rendering render artwork art composition time moment ease speed pace end half
    rest distance direction edge surroundings vastness sense feeling mood atmosphere version
    look something anything nothing everything someone somebody anyone everyone none each both all
    some any most others thing things stuff addition order example case fact purpose reason
    manner might sight place meditation height width depth length part
    unison harmony concept idea effect"""
)
TIMES = words(
    """night day daytime nighttime morning evening afternoon noon midnight dawn dusk sunset sunrise
    twilight summer winter spring autumn fall season christmas halloween easter today century"""
)
#: Nouns that say how many, or how they stand together: the thing itself follows behind "of".
GROUPS = words(
    """pair couple dozen group bunch herd flock pack swarm school crowd row line stack pile heap set
    collection cluster array series handful trio duo quartet colony bouquet team gang lot
    hundreds thousands dozens lots plenty range assortment mix litter pride fleet"""
)
#: What a colour may be beside its name.
SHADES = words("neon bright dark light pale deep pastel vivid soft hot")
PARTS_OF = words("piece slice chunk bit drop sliver bite")


def noun_type(name: str, lemma: str) -> str:
    """Type of a thing.

    >>> noun_type("teddy bear", "bear"), noun_type("brown bear", "bear"), noun_type("ball", "ball")
    ('object', 'animal', 'object')

    Args:
        name: All of it, in lower case.
        lemma: Of its last word.
    """
    if known := NAMES.get(name):
        return known
    for kind, known_words in (
        ("human", HUMANS), ("animal", ANIMALS), ("food", FOODS), ("location", LOCATIONS)
    ):  # fmt: skip
        if lemma in known_words or name in known_words:
            return kind
    return "object"


def attribute_type(text: str) -> str:
    """Type of what a thing is like.

    >>> [attribute_type(t) for t in ("dark green", "black and white", "wooden", "round", "tall")]
    ['color', 'color', 'material', 'shape', 'attribute']
    """
    last = (text.lower().replace("-", " - ").split() or [""])[-1]
    if last in COLORS:
        return "color"
    if text.lower() in SHAPES or last in SHAPES or text.lower().endswith("-shaped"):
        return "shape"
    return "material" if last in MATERIALS else "attribute"
