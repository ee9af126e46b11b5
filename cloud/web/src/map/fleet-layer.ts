// Draws every vehicle and its trail in two calls.
//
// Why not a GeoJSON source: it cuts and indexes tiles in a worker for each change, which at
// thousands of changes a second lags behind. Here a change is one upload of some hundred kilobytes.
//
// Invariant: what goes to the card is relative to an origin near the middle of the view, because
// 32 bits of a world coordinate are two metres wide.

import type { CustomLayerInterface, Map as MapLibre } from 'maplibre-gl';

import { mercatorX, mercatorY, stateOf, STATES, type Fleet, type State } from '../core/fleet.ts';
import { rgb, type Palette } from './palette.ts';
import { POINT_FRAGMENT, POINT_VERTEX, TRAIL_FRAGMENT, TRAIL_VERTEX } from './shaders.ts';

type GL = WebGLRenderingContext | WebGL2RenderingContext;

/** Floats of one point: to, from, moved, state, heading, selected. */
const POINT = 8;
/** Floats of one end of a trail's piece: place and age. */
const END = 3;
/** Pieces of trails at most: what a phone draws without effort. */
const PIECES_MAX = 60_000;
/** A vehicle reaches its new place in this time, seconds; reports come once a second or slower. */
const GLIDE_S = 0.9;
/** Below this zoom a second's way is less than a pixel. */
const GLIDE_ZOOM = 12.5;
const STALE_LOOK_MS = 5000;

export interface FleetLook {
  shown: ReadonlySet<State>;
  /** What the search found; null: everything. */
  only: ReadonlySet<number> | null;
  selected: number | null;
  trail_ms: number;
}

export class FleetLayer implements CustomLayerInterface {
  readonly id = 'fleet';
  readonly type = 'custom' as const;
  readonly renderingMode = '2d' as const;
  look: FleetLook = { shown: new Set(STATES), only: null, selected: null, trail_ms: 5 * 60_000 };
  /** How often it was drawn: whoever measures reads it. */
  frames = 0;
  private map: MapLibre | null = null;
  private points: Program | null = null;
  private trails: Program | null = null;
  private pointData = new Float32Array(0);
  private trailData = new Float32Array(2 * END * PIECES_MAX);
  private pointCount = 0;
  private endCount = 0;
  private origin: [number, number] = [0.5, 0.5];
  private drawn = { version: -1, look: this.look, at: 0, trails_at: 0, zoom: -1 };
  private moved_until = 0;
  private readonly fleet: Fleet;
  private readonly clock: () => number;
  private readonly still = matchMedia('(prefers-reduced-motion: reduce)');
  private colours: Palette;

  constructor(fleet: Fleet, colours: Palette, clock: () => number) {
    this.fleet = fleet;
    this.colours = colours;
    this.clock = clock;
  }

  setColours(colours: Palette): void {
    this.colours = colours;
    this.map?.triggerRepaint();
  }

  onAdd(map: MapLibre, gl: GL): void {
    this.map = map;
    this.points = program(gl, POINT_VERTEX, POINT_FRAGMENT, ['a_to', 'a_from', 'a_moved', 'a_look']);
    this.trails = program(gl, TRAIL_VERTEX, TRAIL_FRAGMENT, ['a_to', 'a_age']);
    this.drawn.version = -1;
  }

  onRemove(_map: MapLibre, gl: GL): void {
    for (const made of [this.points, this.trails]) {
      if (!made) continue;
      gl.deleteProgram(made.program);
      gl.deleteBuffer(made.buffer);
    }
    this.points = this.trails = this.map = null;
  }

  render(gl: GL, matrix: ArrayLike<number>): void {
    if (!this.map || !this.points || !this.trails) return;
    this.frames++;
    this.refresh(gl);
    const local = translated(matrix, this.origin[0], this.origin[1]);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    if (this.endCount > 0) {
      const { program, at, uniform } = this.trails;
      gl.useProgram(program);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.trails.buffer);
      attribute(gl, at['a_to']!, 2, END, 0);
      attribute(gl, at['a_age']!, 1, END, 2);
      gl.uniformMatrix4fv(uniform('u_matrix'), false, local);
      gl.uniform3fv(uniform('u_colour'), rgb(this.colours.moving));
      gl.drawArrays(gl.LINES, 0, this.endCount);
    }
    if (this.pointCount === 0) return;
    const zoom = this.map.getZoom();
    const glide = zoom >= GLIDE_ZOOM && !this.still.matches ? GLIDE_S : 0;
    const now_s = (performance.now() % 1e7) / 1000;
    const size = (zoom < 5 ? 11 : zoom < 10 ? 15 : 20) * devicePixelRatio;
    const { program, at, uniform } = this.points;
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.points.buffer);
    attribute(gl, at['a_to']!, 2, POINT, 0);
    attribute(gl, at['a_from']!, 2, POINT, 2);
    attribute(gl, at['a_moved']!, 1, POINT, 4);
    attribute(gl, at['a_look']!, 3, POINT, 5);
    gl.uniformMatrix4fv(uniform('u_matrix'), false, local);
    gl.uniform1f(uniform('u_now'), now_s);
    gl.uniform1f(uniform('u_glide'), glide);
    gl.uniform1f(uniform('u_size'), size);
    gl.uniform3fv(uniform('u_colours'), STATES.flatMap((state) => rgb(this.colours[state])));
    gl.uniform3fv(uniform('u_rim'), rgb(this.colours.rim));
    gl.uniform3fv(uniform('u_selected'), rgb(this.colours.selected));
    gl.drawArrays(gl.POINTS, 0, this.pointCount);
    if (glide > 0 && performance.now() < this.moved_until) this.map.triggerRepaint();
  }

  /** Uploads again if anything that is shown has changed. */
  private refresh(gl: GL): void {
    const now = performance.now();
    const map = this.map!;
    const centre = map.getCenter();
    const [cx, cy] = [mercatorX(centre.lng), mercatorY(centre.lat)];
    const world = 512 * 2 ** map.getZoom();
    const off = Math.max(Math.abs(cx - this.origin[0]), Math.abs(cy - this.origin[1]));
    const far = off * world * 6e-8 > 0.05;
    const changed = this.drawn.version !== this.fleet.version || this.drawn.look !== this.look;
    if (!far && !changed && now - this.drawn.at < STALE_LOOK_MS) return;
    if (far) this.origin = [cx, cy];
    this.fillPoints(now);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.points!.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, this.pointData.subarray(0, this.pointCount * POINT), gl.DYNAMIC_DRAW);
    if (far || this.drawn.look !== this.look || now - this.drawn.trails_at > 900) {
      this.fillTrails();
      gl.bindBuffer(gl.ARRAY_BUFFER, this.trails!.buffer);
      gl.bufferData(gl.ARRAY_BUFFER, this.trailData.subarray(0, this.endCount * END), gl.DYNAMIC_DRAW);
      this.drawn.trails_at = now;
    }
    this.drawn = { ...this.drawn, version: this.fleet.version, look: this.look, at: now };
  }

  private fillPoints(now: number): void {
    const wall = this.clock();
    const need = this.fleet.vehicles.size * POINT;
    if (this.pointData.length < need) this.pointData = new Float32Array(Math.ceil(need * 1.3));
    const data = this.pointData;
    const [ox, oy] = this.origin;
    const epoch = now - (now % 1e7);
    let count = 0;
    for (const vehicle of this.fleet.vehicles.values()) {
      const state = stateOf(vehicle, wall);
      const selected = vehicle.id === this.look.selected;
      if (!selected && (!this.look.shown.has(state) || (this.look.only && !this.look.only.has(vehicle.id)))) continue;
      const i = count++ * POINT;
      data[i] = vehicle.x - ox;
      data[i + 1] = vehicle.y - oy;
      data[i + 2] = vehicle.fromX - ox;
      data[i + 3] = vehicle.fromY - oy;
      data[i + 4] = (vehicle.moved_ms - epoch) / 1000;
      data[i + 5] = STATES.indexOf(state);
      data[i + 6] = ((vehicle.row.heading_deg ?? 0) * Math.PI) / 180;
      data[i + 7] = selected ? 1 : 0;
      this.moved_until = Math.max(this.moved_until, vehicle.moved_ms + GLIDE_S * 1000);
    }
    this.pointCount = count;
  }

  private fillTrails(): void {
    this.endCount = 0;
    const { trail_ms, shown, only } = this.look;
    if (trail_ms <= 0) return;
    const map = this.map!;
    const wall = this.clock();
    const since = wall - trail_ms;
    const bounds = map.getBounds();
    const [west, east] = [mercatorX(bounds.getWest()), mercatorX(bounds.getEast())];
    const [north, south] = [mercatorY(bounds.getNorth()), mercatorY(bounds.getSouth())];
    const data = this.trailData;
    const [ox, oy] = this.origin;
    let at = 0;
    for (const vehicle of this.fleet.vehicles.values()) {
      if (vehicle.x < west || vehicle.x > east || vehicle.y < north || vehicle.y > south) continue;
      if (!shown.has(stateOf(vehicle, wall)) || (only && !only.has(vehicle.id))) continue;
      let first = true;
      let [px, py, page] = [0, 0, 0];
      this.fleet.trails.each(vehicle.id, since, (time_ms, x, y) => {
        const age = Math.min(1, Math.max(0, (wall - time_ms) / trail_ms));
        if (!first && at + 2 * END <= data.length) {
          data[at++] = px - ox;
          data[at++] = py - oy;
          data[at++] = page;
          data[at++] = x - ox;
          data[at++] = y - oy;
          data[at++] = age;
        }
        first = false;
        [px, py, page] = [x, y, age];
      });
      if (at + 2 * END > data.length) break;
    }
    this.endCount = at / END;
  }
}

interface Program {
  program: WebGLProgram;
  buffer: WebGLBuffer;
  at: Record<string, number>;
  uniform(name: string): WebGLUniformLocation | null;
}

function program(gl: GL, vertex: string, fragment: string, attributes: string[]): Program {
  const made = gl.createProgram()!;
  for (const [type, source] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ] as const) {
    const shader = gl.createShader(type)!;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) {
    throw new Error(`the graphics card refuses to draw vehicles: ${gl.getProgramInfoLog(made) ?? ''}`);
  }
  const uniforms = new Map<string, WebGLUniformLocation | null>();
  return {
    program: made,
    buffer: gl.createBuffer()!,
    at: Object.fromEntries(attributes.map((name) => [name, gl.getAttribLocation(made, name)])),
    uniform(name) {
      if (!uniforms.has(name)) uniforms.set(name, gl.getUniformLocation(made, name));
      return uniforms.get(name)!;
    },
  };
}

function attribute(gl: GL, at: number, size: number, stride: number, offset: number): void {
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, size, gl.FLOAT, false, stride * 4, offset * 4);
}

/** `matrix` after a shift by x and y, in 64 bits until the very end. */
function translated(matrix: ArrayLike<number>, x: number, y: number): Float32Array {
  const out = Float64Array.from(matrix);
  for (let i = 0; i < 4; i++) out[12 + i] = matrix[i]! * x + matrix[4 + i]! * y + matrix[12 + i]!;
  return Float32Array.from(out);
}
