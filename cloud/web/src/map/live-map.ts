// The live map: base map, fleet layer, and what a pointer does on it.

import type { Feature } from 'geojson';

import { latitudeOf, longitudeOf, mercatorX, mercatorY, nearest, stateOf, type Fleet } from '../core/fleet.ts';
import { BaseMap, type BaseOptions } from './base.ts';
import { FleetLayer, type FleetLook } from './fleet-layer.ts';

/** How far beside a mark a click still means it, pixels. */
const REACH_PX = 14;

export interface LiveMapOptions extends BaseOptions {
  fleet: Fleet;
  clock: () => number;
  pick: (id: number | null) => void;
}

export class LiveMap {
  readonly base: BaseMap;
  readonly layer: FleetLayer;
  private readonly fleet: Fleet;
  private readonly tip: HTMLElement;
  private readonly clock: () => number;
  private fitted = false;
  private added = false;

  constructor(container: HTMLElement, options: LiveMapOptions) {
    this.fleet = options.fleet;
    this.clock = options.clock;
    this.base = new BaseMap(container, options);
    this.layer = new FleetLayer(options.fleet, this.base.colours, options.clock);
    this.tip = document.createElement('div');
    this.tip.className = 'map-tip';
    this.tip.setAttribute('aria-hidden', 'true');
    this.tip.hidden = true;
    container.append(this.tip);
    const map = this.base.map;
    void this.base.ready.then(() => {
      map.addSource('selected-trail', { type: 'geojson', data: line([]) });
      map.addLayer({
        id: 'selected-trail',
        type: 'line',
        source: 'selected-trail',
        layout: { 'line-cap': 'round', 'line-join': 'round' },
        paint: { 'line-color': this.base.colours.track, 'line-width': 4, 'line-opacity': 0.75 },
      });
      map.addLayer(this.layer);
      this.added = true;
      this.changed();
    });
    map.on('click', (event) => options.pick(this.at(event.lngLat.lng, event.lngLat.lat)));
    map.on('mousemove', (event) => this.hover(event.lngLat.lng, event.lngLat.lat, event.point.x, event.point.y));
    map.on('mouseout', () => (this.tip.hidden = true));
  }

  /** Rows came in: shown with the next frame. The first ones move the map to where they are. */
  changed(): void {
    if (!this.added) return;
    if (!this.fitted) this.showAll(false);
    this.drawSelected();
    this.base.map.triggerRepaint();
  }

  setLook(look: Partial<FleetLook>): void {
    this.layer.look = { ...this.layer.look, ...look };
    this.changed();
  }

  setDark(dark: boolean): void {
    this.base.setDark(dark);
    this.layer.setColours(this.base.colours);
    if (this.base.map.getLayer('selected-trail')) {
      this.base.map.setPaintProperty('selected-trail', 'line-color', this.base.colours.track);
    }
  }

  showAll(animate: boolean): void {
    const bounds = this.fleet.bounds();
    if (!bounds) return;
    this.fitted = true;
    this.base.fit(bounds, 60, animate);
  }

  goTo(id: number, zoom_min: number): void {
    const vehicle = this.fleet.vehicles.get(id);
    if (!vehicle) return;
    this.fitted = true;
    const centre: [number, number] = [longitudeOf(vehicle.x), latitudeOf(vehicle.y)];
    this.base.map.easeTo({ center: centre, zoom: Math.max(this.base.map.getZoom(), zoom_min), duration: 400 });
  }

  remove(): void {
    this.base.remove();
  }

  private drawSelected(): void {
    const { selected, trail_ms } = this.layer.look;
    const points = selected === null || trail_ms <= 0 ? [] : this.fleet.trails.of(selected, this.clock() - trail_ms);
    this.base.set('selected-trail', line(points.map(({ x, y }) => [longitudeOf(x), latitudeOf(y)])));
  }

  private at(lon: number, lat: number): number | null {
    const world = 512 * 2 ** this.base.map.getZoom();
    const now = this.clock();
    const { shown, only } = this.layer.look;
    const visible = (v: { id: number }) => !only || only.has(v.id);
    return (
      nearest(this.fleet, mercatorX(lon), mercatorY(lat), REACH_PX / world, (v) => visible(v) && shown.has(stateOf(v, now)))?.id ??
      null
    );
  }

  private hover(lon: number, lat: number, left: number, top: number): void {
    const id = this.at(lon, lat);
    const vehicle = id === null ? undefined : this.fleet.vehicles.get(id);
    this.base.map.getCanvas().style.cursor = vehicle ? 'pointer' : '';
    this.tip.hidden = !vehicle;
    if (!vehicle) return;
    const state = stateOf(vehicle, this.clock());
    this.tip.textContent = `${vehicle.label} · ${state}${state === 'moving' ? ` ${vehicle.row.speed_kmh} km/h` : ''}`;
    this.tip.style.transform = `translate(${left + 14}px, ${top + 10}px)`;
  }
}

function line(coordinates: [number, number][]): Feature {
  return { type: 'Feature', properties: {}, geometry: { type: 'LineString', coordinates } };
}
