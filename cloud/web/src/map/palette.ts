// Colours of the map in both themes. The same values as in style.css, for what WebGL draws.

export interface Palette {
  water: string;
  land: string;
  border: string;
  coast: string;
  grid: string;
  track: string;
  /** Around every mark, so that it stands out from what is below. */
  rim: string;
  moving: string;
  stopped: string;
  stale: string;
  selected: string;
}

export const LIGHT: Palette = {
  water: '#d3e0e8',
  land: '#f4f5f1',
  border: '#b4bfc6',
  coast: '#a3b6c2',
  grid: '#dfe5e4',
  track: '#0b5cad',
  rim: '#ffffff',
  moving: '#0f7a55',
  stopped: '#4a5a68',
  stale: '#a85d00',
  selected: '#0b5cad',
};

export const DARK: Palette = {
  water: '#0b1116',
  land: '#1a222a',
  border: '#3b4853',
  coast: '#33424e',
  grid: '#252f38',
  track: '#6cb2ff',
  rim: '#0b1116',
  moving: '#3fc48d',
  stopped: '#9fb0be',
  stale: '#f0a93f',
  selected: '#6cb2ff',
};

/** `#rrggbb` as three numbers from 0 to 1. */
export function rgb(hex: string): [number, number, number] {
  const value = parseInt(hex.slice(1), 16);
  return [((value >> 16) & 255) / 255, ((value >> 8) & 255) / 255, (value & 255) / 255];
}
