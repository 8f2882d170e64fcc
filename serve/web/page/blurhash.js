// A picture's placeholder, by Algorithm.md of woltapp/blurhash.

const DIGITS =
  "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";
const SIDE = 24; // pixels; the browser smooths the rest

/** A canvas that shows the hash, to be stretched to the picture's size; null if it is none. */
export function placeholder(hash) {
  const waves = read(hash);
  if (!waves) return null;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  for (let y = 0; y < SIDE; y += 1) {
    for (let x = 0; x < SIDE; x += 1) {
      const colour = [0, 0, 0];
      for (const { across, down, amount } of waves) {
        const height = Math.cos((Math.PI * across * x) / SIDE) * Math.cos((Math.PI * down * y) / SIDE);
        for (let channel = 0; channel < 3; channel += 1) colour[channel] += amount[channel] * height;
      }
      pixels.data.set([...colour.map(gamma), 255], 4 * (y * SIDE + x));
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The cosines that the hash is made of. */
function read(hash) {
  const counts = number(hash, 0, 1);
  const columns = (counts % 9) + 1;
  const rows = Math.floor(counts / 9) + 1;
  if (hash.length !== 4 + 2 * columns * rows || [...hash].some((digit) => !DIGITS.includes(digit)))
    return null;
  const most = (number(hash, 1, 2) + 1) / 166;
  const waves = [];
  for (let i = 0; i < columns * rows; i += 1) {
    const amount = i ? amplitudes(number(hash, 4 + 2 * i, 6 + 2 * i), most) : mean(number(hash, 2, 6));
    waves.push({ across: i % columns, down: Math.floor(i / columns), amount });
  }
  return waves;
}

function number(hash, from, to) {
  return [...hash.slice(from, to)].reduce((sum, digit) => sum * 83 + DIGITS.indexOf(digit), 0);
}

function mean(value) {
  return [value >> 16, (value >> 8) & 255, value & 255].map((level) => {
    const share = level / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
}

function amplitudes(value, most) {
  return [Math.floor(value / 361), Math.floor(value / 19) % 19, value % 19].map((step) => {
    const share = (step - 9) / 9;
    return Math.sign(share) * share ** 2 * most;
  });
}

function gamma(linear) {
  const light = Math.min(Math.max(linear, 0), 1);
  return 255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055);
}
