/** The colours of sockets and links: those that the ecosystem uses, and steady ones for types that it has none for. */

const KNOWN: Readonly<Record<string, string>> = {
  MODEL: "#b39ddb",
  CLIP: "#ffd500",
  VAE: "#ff6e6e",
  CONDITIONING: "#ffa931",
  LATENT: "#ff9cf9",
  IMAGE: "#64b5f6",
  MASK: "#81c784",
  CONTROL_NET: "#6ee7b7",
  STYLE_MODEL: "#c2ffae",
  CLIP_VISION: "#a8dadc",
  CLIP_VISION_OUTPUT: "#ad7452",
  SIGMAS: "#cdffcd",
  NOISE: "#b0b0b0",
  GUIDER: "#66ffff",
  SAMPLER: "#ecb4b4",
  INT: "#7fa8c9",
  FLOAT: "#9fb6ad",
  STRING: "#8fc98f",
  BOOLEAN: "#c9a97f",
  "*": "#aab0ba",
};

export function colourOf(wire: string): string {
  return KNOWN[wire.split(",")[0]!.trim()] ?? `hsl(${hue(wire)} 55% 70%)`;
}

function hue(word: string): number {
  let sum = 0;
  for (const letter of word) sum = (sum * 31 + letter.codePointAt(0)!) % 360;
  return sum;
}
