"""Captions without a fault, in which a detector must find nothing: photographs, products, numbers, places."""

from __future__ import annotations

PHOTOGRAPHS = """
A black dog runs along the beach with a stick in its mouth .
A man in a red jacket skis down a snowy hill .
Two girls sit on a swing and laugh at each other .
A little boy in a blue shirt jumps into a swimming pool .
Three people wait for the bus in the rain .
A woman with an umbrella crosses a busy street at night .
A group of hikers rests beside a mountain lake .
The brown horse jumps over a white fence .
Children play soccer on a dusty field in the afternoon .
A baby in a yellow hat looks at the camera .
A cyclist in a green helmet rides through the mud .
An old man reads a newspaper on a park bench .
Two dogs fight over a tennis ball in the grass .
A street musician plays the violin in front of a church .
A surfer rides a big wave near the pier .
Several teenagers do tricks on their skateboards .
A man in a suit talks on his phone while he walks .
A white cat sleeps on a pile of laundry .
A crowd watches the fireworks above the river .
The goalkeeper stretches to catch the ball .
A young couple dances at a wedding .
A climber hangs from a steep red rock .
A girl blows soap bubbles in a garden .
Four boys stand on a diving board .
A fisherman pulls his net into a small wooden boat .
A toddler in pink boots splashes through a puddle .
A waiter carries a tray with six glasses of beer .
Snow covers the roofs of the village .
A football player with the number 22 on his jersey tackles another one .
A brown and white dog is carrying a yellow toy through deep snow .
People sit at small tables outside a café .
A woman sells fruit at an open market .
The train leaves the station on platform 4 .
A motorcyclist leans into a curve during a race .
A boy with a painted face holds a red balloon .
""".strip().splitlines()

WITH_NUMBERS = """
A 1984 photo of 12 men in front of a factory
The team of 2012 with 23 players and 4 coaches
Runner 1044 passes runner 87 at kilometre 35
A box of 500 screws, 4 x 40 mm, article 7731-20
A laptop with 16 GB of memory for $1,299.00
A vintage poster: 25 cents, open 10-18, closed on 24 and 25 December
Bus 204 towards Elm Street, 14:35
Highway sign: exit 118, 12.5 miles
A calendar that shows 31.12.1999 and 01.01.2000
Photograph taken on 2019-07-04 at 21:30:05
Stamp with the number 0012345
The book ISBN 978-3-16-148410-0 on a desk
An old paperback, ISBN 0-306-40615-2
Bar code 4006381333931 on a pencil
Battery serial number 490154203237518
Population 12 345 678 according to the chart
A scoreboard: 21-15, 21-18, 15-21
A price tag, was 1.299.000, now 999.000
Camera at f/2.8, 1/250 s, ISO 3200, 50 mm
A satellite image at 52.520008, 13.404954
A 3840 x 2160 screenshot with 60 frames per second
A map of the years 1914-1918 and 1939-1945
Model A320-214 on runway 09L/27R
The building at 350 Fifth Avenue, New York, NY 10118-0110
Gate B42, flight 1187, row 17, seats 17A to 17F
A thermometer between -12.5 and 40 degrees
Pi to some digits: 3.14159265358979
Postcard number 3 of 48, printed in 1903
Version 1.10.123.4567 of the program on a screen
Chart: 10 20 30 40 50 60 70 80 90 100
A licence plate, partly hidden: B 1234
A ruler from 0 to 30 cm and a 2-euro coin
Order 2024 0115 1234, delivered on 15/01/2024
A jersey with 10, and a ball of 430 g
""".strip().splitlines()

PRODUCTS_AND_PLACES = """
Red leather handbag with a gold zip and two outer pockets
Ceramic mug, 350 ml, dishwasher safe, with a printed fox
Men's running shoes in grey and orange, side view
Wooden dining table for six people, oak, oiled
Close-up of a silver wristwatch with a black dial
A stack of blue towels on a white shelf
Stainless steel kettle on an induction hob
Portrait of a lighthouse keeper, oil on canvas
The old town of Görlitz at sunset
Fish market in Tromsø, early in the morning
View over São Paulo from a helicopter
A naïve painting of Zoë's house and a café crème
Neuschwanstein castle in autumn fog
Mount Fuji behind a field of tea
A tram in Lisbon climbs a narrow street
Rice terraces after the rain, seen from above
X-ray of a left hand, no fracture visible
Histology section, stained, at 40 times magnification
Aerial photograph of a harbour with containers
Screenshot of a login form with two empty fields
A bar chart that compares five countries
Handwritten note: milk, eggs, bread & butter
Sign at a door: push, then wait for the bell
Graffiti on a wall that says "Be kind @ work"
Twitter profile of a museum, @natural_history
Street sign in Kraków: ul. Świętego Jana
Advertising poster with the words "50 % off until Sunday!"
Two astronauts repair a solar panel outside the station
A robot arm places a chip on a circuit board
Microscope image of pollen grains, false colours
A child's drawing of a house with smoke -- crayons on paper
""".strip().splitlines()

ORDINARY = tuple(PHOTOGRAPHS + WITH_NUMBERS + PRODUCTS_AND_PLACES)
