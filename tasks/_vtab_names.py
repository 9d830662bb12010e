"""Class names of VTAB's tasks in the order of their label numbers, which is that of TFDS.

The lists of the released folders hold numbers only; original files are matched by these names.
"""

from __future__ import annotations


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


CALTECH101 = _names(
    """
    accordion, airplanes, anchor, ant, background_google, barrel, bass, beaver, binocular, bonsai,
    brain, brontosaurus, buddha, butterfly, camera, cannon, car_side, ceiling_fan, cellphone,
    chair, chandelier, cougar_body, cougar_face, crab, crayfish, crocodile, crocodile_head, cup,
    dalmatian, dollar_bill, dolphin, dragonfly, electric_guitar, elephant, emu, euphonium, ewer,
    faces, faces_easy, ferry, flamingo, flamingo_head, garfield, gerenuk, gramophone, grand_piano,
    hawksbill, headphone, hedgehog, helicopter, ibis, inline_skate, joshua_tree, kangaroo, ketch,
    lamp, laptop, leopards, llama, lobster, lotus, mandolin, mayfly, menorah, metronome, minaret,
    motorbikes, nautilus, octopus, okapi, pagoda, panda, pigeon, pizza, platypus, pyramid,
    revolver, rhino, rooster, saxophone, schooner, scissors, scorpion, sea_horse, snoopy,
    soccer_ball, stapler, starfish, stegosaurus, stop_sign, strawberry, sunflower, tick,
    trilobite, umbrella, watch, water_lilly, wheelchair, wild_cat, windsor_chair, wrench, yin_yang
    """
)

CIFAR100 = _names(
    """
    apple, aquarium_fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy,
    bridge, bus, butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock,
    cloud, cockroach, couch, crab, crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest,
    fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn_mower, leopard, lion, lizard,
    lobster, man, maple_tree, motorcycle, mountain, mouse, mushroom, oak_tree, orange, orchid,
    otter, palm_tree, pear, pickup_truck, pine_tree, plain, plate, poppy, porcupine, possum,
    rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail,
    snake, spider, squirrel, streetcar, sunflower, sweet_pepper, table, tank, telephone,
    television, tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow_tree, wolf,
    woman, worm
    """
)

DTD = _names(
    """
    banded, blotchy, braided, bubbly, bumpy, chequered, cobwebbed, cracked, crosshatched,
    crystalline, dotted, fibrous, flecked, freckled, frilly, gauzy, grid, grooved, honeycombed,
    interlaced, knitted, lacelike, lined, marbled, matted, meshed, paisley, perforated, pitted,
    pleated, polka-dotted, porous, potholed, scaly, smeared, spiralled, sprinkled, stained,
    stratified, striped, studded, swirly, veined, waffled, woven, wrinkled, zigzagged
    """
)

OXFORD_FLOWERS102 = _names(
    """
    pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger
    lily, moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king
    protea, spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon
    flower, giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape
    hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet william,
    carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped
    cattleya, cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil,
    sword lily, poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common
    dandelion, petunia, wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura,
    geranium, orange dahlia, pink-yellow dahlia?, cautleya spicata, japanese anemone, black-eyed
    susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris, windflower,
    tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower,
    lotus, toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree
    mallow, magnolia, cyclamen, watercress, canna lily, hippeastrum, bee balm, ball moss,
    foxglove, bougainvillea, camellia, mallow, mexican petunia, bromelia, blanket flower, trumpet
    creeper, blackberry lily
    """
)

OXFORD_IIIT_PET = _names(
    """
    Abyssinian, american_bulldog, american_pit_bull_terrier, basset_hound, beagle, Bengal, Birman,
    Bombay, boxer, British_Shorthair, chihuahua, Egyptian_Mau, english_cocker_spaniel,
    english_setter, german_shorthaired, great_pyrenees, havanese, japanese_chin, keeshond,
    leonberger, Maine_Coon, miniature_pinscher, newfoundland, Persian, pomeranian, pug, Ragdoll,
    Russian_Blue, saint_bernard, samoyed, scottish_terrier, shiba_inu, Siamese, Sphynx,
    staffordshire_bull_terrier, wheaten_terrier, yorkshire_terrier
    """
)

SUN397 = _names(
    """
    /a/abbey, /a/airplane_cabin, /a/airport_terminal, /a/alley, /a/amphitheater,
    /a/amusement_arcade, /a/amusement_park, /a/anechoic_chamber, /a/apartment_building/outdoor,
    /a/apse/indoor, /a/aquarium, /a/aqueduct, /a/arch, /a/archive, /a/arrival_gate/outdoor,
    /a/art_gallery, /a/art_school, /a/art_studio, /a/assembly_line, /a/athletic_field/outdoor,
    /a/atrium/public, /a/attic, /a/auditorium, /a/auto_factory, /b/badlands,
    /b/badminton_court/indoor, /b/baggage_claim, /b/bakery/shop, /b/balcony/exterior,
    /b/balcony/interior, /b/ball_pit, /b/ballroom, /b/bamboo_forest, /b/banquet_hall, /b/bar,
    /b/barn, /b/barndoor, /b/baseball_field, /b/basement, /b/basilica,
    /b/basketball_court/outdoor, /b/bathroom, /b/batters_box, /b/bayou, /b/bazaar/indoor,
    /b/bazaar/outdoor, /b/beach, /b/beauty_salon, /b/bedroom, /b/berth, /b/biology_laboratory,
    /b/bistro/indoor, /b/boardwalk, /b/boat_deck, /b/boathouse, /b/bookstore, /b/booth/indoor,
    /b/botanical_garden, /b/bow_window/indoor, /b/bow_window/outdoor, /b/bowling_alley,
    /b/boxing_ring, /b/brewery/indoor, /b/bridge, /b/building_facade, /b/bullring,
    /b/burial_chamber, /b/bus_interior, /b/butchers_shop, /b/butte, /c/cabin/outdoor,
    /c/cafeteria, /c/campsite, /c/campus, /c/canal/natural, /c/canal/urban, /c/candy_store,
    /c/canyon, /c/car_interior/backseat, /c/car_interior/frontseat, /c/carrousel,
    /c/casino/indoor, /c/castle, /c/catacomb, /c/cathedral/indoor, /c/cathedral/outdoor,
    /c/cavern/indoor, /c/cemetery, /c/chalet, /c/cheese_factory, /c/chemistry_lab,
    /c/chicken_coop/indoor, /c/chicken_coop/outdoor, /c/childs_room, /c/church/indoor,
    /c/church/outdoor, /c/classroom, /c/clean_room, /c/cliff, /c/cloister/indoor, /c/closet,
    /c/clothing_store, /c/coast, /c/cockpit, /c/coffee_shop, /c/computer_room,
    /c/conference_center, /c/conference_room, /c/construction_site, /c/control_room,
    /c/control_tower/outdoor, /c/corn_field, /c/corral, /c/corridor, /c/cottage_garden,
    /c/courthouse, /c/courtroom, /c/courtyard, /c/covered_bridge/exterior, /c/creek, /c/crevasse,
    /c/crosswalk, /c/cubicle/office, /d/dam, /d/delicatessen, /d/dentists_office, /d/desert/sand,
    /d/desert/vegetation, /d/diner/indoor, /d/diner/outdoor, /d/dinette/home, /d/dinette/vehicle,
    /d/dining_car, /d/dining_room, /d/discotheque, /d/dock, /d/doorway/outdoor, /d/dorm_room,
    /d/driveway, /d/driving_range/outdoor, /d/drugstore, /e/electrical_substation,
    /e/elevator/door, /e/elevator/interior, /e/elevator_shaft, /e/engine_room,
    /e/escalator/indoor, /e/excavation, /f/factory/indoor, /f/fairway, /f/fastfood_restaurant,
    /f/field/cultivated, /f/field/wild, /f/fire_escape, /f/fire_station, /f/firing_range/indoor,
    /f/fishpond, /f/florist_shop/indoor, /f/food_court, /f/forest/broadleaf, /f/forest/needleleaf,
    /f/forest_path, /f/forest_road, /f/formal_garden, /f/fountain, /g/galley, /g/game_room,
    /g/garage/indoor, /g/garbage_dump, /g/gas_station, /g/gazebo/exterior,
    /g/general_store/indoor, /g/general_store/outdoor, /g/gift_shop, /g/golf_course,
    /g/greenhouse/indoor, /g/greenhouse/outdoor, /g/gymnasium/indoor, /h/hangar/indoor,
    /h/hangar/outdoor, /h/harbor, /h/hayfield, /h/heliport, /h/herb_garden, /h/highway, /h/hill,
    /h/home_office, /h/hospital, /h/hospital_room, /h/hot_spring, /h/hot_tub/outdoor,
    /h/hotel/outdoor, /h/hotel_room, /h/house, /h/hunting_lodge/outdoor, /i/ice_cream_parlor,
    /i/ice_floe, /i/ice_shelf, /i/ice_skating_rink/indoor, /i/ice_skating_rink/outdoor,
    /i/iceberg, /i/igloo, /i/industrial_area, /i/inn/outdoor, /i/islet, /j/jacuzzi/indoor,
    /j/jail/indoor, /j/jail_cell, /j/jewelry_shop, /k/kasbah, /k/kennel/indoor, /k/kennel/outdoor,
    /k/kindergarden_classroom, /k/kitchen, /k/kitchenette, /l/labyrinth/outdoor, /l/lake/natural,
    /l/landfill, /l/landing_deck, /l/laundromat, /l/lecture_room, /l/library/indoor,
    /l/library/outdoor, /l/lido_deck/outdoor, /l/lift_bridge, /l/lighthouse,
    /l/limousine_interior, /l/living_room, /l/lobby, /l/lock_chamber, /l/locker_room, /m/mansion,
    /m/manufactured_home, /m/market/indoor, /m/market/outdoor, /m/marsh, /m/martial_arts_gym,
    /m/mausoleum, /m/medina, /m/moat/water, /m/monastery/outdoor, /m/mosque/indoor,
    /m/mosque/outdoor, /m/motel, /m/mountain, /m/mountain_snowy, /m/movie_theater/indoor,
    /m/museum/indoor, /m/music_store, /m/music_studio, /n/nuclear_power_plant/outdoor, /n/nursery,
    /o/oast_house, /o/observatory/outdoor, /o/ocean, /o/office, /o/office_building,
    /o/oil_refinery/outdoor, /o/oilrig, /o/operating_room, /o/orchard, /o/outhouse/outdoor,
    /p/pagoda, /p/palace, /p/pantry, /p/park, /p/parking_garage/indoor, /p/parking_garage/outdoor,
    /p/parking_lot, /p/parlor, /p/pasture, /p/patio, /p/pavilion, /p/pharmacy, /p/phone_booth,
    /p/physics_laboratory, /p/picnic_area, /p/pilothouse/indoor, /p/planetarium/outdoor,
    /p/playground, /p/playroom, /p/plaza, /p/podium/indoor, /p/podium/outdoor, /p/pond,
    /p/poolroom/establishment, /p/poolroom/home, /p/power_plant/outdoor, /p/promenade_deck,
    /p/pub/indoor, /p/pulpit, /p/putting_green, /r/racecourse, /r/raceway, /r/raft,
    /r/railroad_track, /r/rainforest, /r/reception, /r/recreation_room,
    /r/residential_neighborhood, /r/restaurant, /r/restaurant_kitchen, /r/restaurant_patio,
    /r/rice_paddy, /r/riding_arena, /r/river, /r/rock_arch, /r/rope_bridge, /r/ruin, /r/runway,
    /s/sandbar, /s/sandbox, /s/sauna, /s/schoolhouse, /s/sea_cliff, /s/server_room, /s/shed,
    /s/shoe_shop, /s/shopfront, /s/shopping_mall/indoor, /s/shower, /s/skatepark, /s/ski_lodge,
    /s/ski_resort, /s/ski_slope, /s/sky, /s/skyscraper, /s/slum, /s/snowfield, /s/squash_court,
    /s/stable, /s/stadium/baseball, /s/stadium/football, /s/stage/indoor, /s/staircase, /s/street,
    /s/subway_interior, /s/subway_station/platform, /s/supermarket, /s/sushi_bar, /s/swamp,
    /s/swimming_pool/indoor, /s/swimming_pool/outdoor, /s/synagogue/indoor, /s/synagogue/outdoor,
    /t/television_studio, /t/temple/east_asia, /t/temple/south_asia, /t/tennis_court/indoor,
    /t/tennis_court/outdoor, /t/tent/outdoor, /t/theater/indoor_procenium,
    /t/theater/indoor_seats, /t/thriftshop, /t/throne_room, /t/ticket_booth, /t/toll_plaza,
    /t/topiary_garden, /t/tower, /t/toyshop, /t/track/outdoor, /t/train_railway,
    /t/train_station/platform, /t/tree_farm, /t/tree_house, /t/trench, /u/underwater/coral_reef,
    /u/utility_room, /v/valley, /v/van_interior, /v/vegetable_garden, /v/veranda,
    /v/veterinarians_office, /v/viaduct, /v/videostore, /v/village, /v/vineyard, /v/volcano,
    /v/volleyball_court/indoor, /v/volleyball_court/outdoor, /w/waiting_room, /w/warehouse/indoor,
    /w/water_tower, /w/waterfall/block, /w/waterfall/fan, /w/waterfall/plunge, /w/watering_hole,
    /w/wave, /w/wet_bar, /w/wheat_field, /w/wind_farm, /w/windmill, /w/wine_cellar/barrel_storage,
    /w/wine_cellar/bottle_storage, /w/wrestling_ring/indoor, /y/yard, /y/youth_hostel
    """
)

EUROSAT = _names(
    """
    AnnualCrop, Forest, HerbaceousVegetation, Highway, Industrial, Pasture, PermanentCrop,
    Residential, River, SeaLake
    """
)

RESISC45 = _names(
    """
    airplane, airport, baseball_diamond, basketball_court, beach, bridge, chaparral, church,
    circular_farmland, cloud, commercial_area, dense_residential, desert, forest, freeway,
    golf_course, ground_track_field, harbor, industrial_area, intersection, island, lake, meadow,
    medium_residential, mobile_home_park, mountain, overpass, palace, parking_lot, railway,
    railway_station, rectangular_farmland, river, roundabout, runway, sea_ice, ship, snowberg,
    sparse_residential, stadium, storage_tank, tennis_court, terrace, thermal_power_station,
    wetland
    """
)
