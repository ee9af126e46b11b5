// Plots over time, drawn by uPlot, all with one cursor.

import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import type { SeriesAnswer } from '../api/types.ts';
import { theme } from '../state.ts';
import { useCell } from './hooks.ts';

const HEIGHT = 150;

export interface PlotProps {
  series: SeriesAnswer['series'][number];
  title: string;
  /** Told the time under the cursor, milliseconds; null when it left. */
  hover(time_ms: number | null): void;
}

export function Plot({ series, title, hover }: PlotProps) {
  const holder = useRef<HTMLDivElement>(null);
  const dark = useCell(theme) === 'dark';
  useEffect(() => {
    const box = holder.current!;
    const css = getComputedStyle(document.documentElement);
    const colour = (name: string) => css.getPropertyValue(name).trim();
    const axis = {
      stroke: colour('--muted'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { stroke: colour('--line'), width: 1 },
      font: '11px system-ui, sans-serif',
    };
    const plot = new uPlot(
      {
        width: Math.max(200, box.clientWidth),
        height: HEIGHT,
        cursor: { sync: { key: 'device' }, y: false },
        legend: { show: false },
        scales: { x: { time: true } },
        axes: [
          { ...axis, values: timeTicks },
          { ...axis, size: 52 },
        ],
        series: [
          {},
          {
            label: title,
            stroke: colour('--accent'),
            width: 1.5,
            fill: `${colour('--accent')}22`,
            points: { show: series.points.length < 40 },
            spanGaps: false,
          },
        ],
        hooks: {
          setCursor: [
            (self) => {
              const { idx } = self.cursor;
              hover(idx === null || idx === undefined ? null : (self.data[0][idx] ?? 0) * 1000);
            },
          ],
        },
      },
      [series.points.map(([time]) => Date.parse(time) / 1000), series.points.map(([, value]) => value)],
      box,
    );
    plot.root.setAttribute('aria-hidden', 'true');
    const watch = new ResizeObserver(() => plot.setSize({ width: Math.max(200, box.clientWidth), height: HEIGHT }));
    watch.observe(box);
    return () => {
      watch.disconnect();
      plot.destroy();
    };
  }, [series, dark]);
  const values = series.points.map(([, value]) => value).filter((value): value is number => value !== null);
  const range =
    values.length === 0
      ? 'no values'
      : `${round(values.reduce((a, b) => Math.min(a, b)))} to ${round(values.reduce((a, b) => Math.max(a, b)))}${series.unit ? ` ${series.unit}` : ''}`;
  return (
    <figure class="plot">
      <figcaption>
        <b>{title}</b>
        {series.unit ? ` in ${series.unit}` : ''} <span class="quiet">{range}</span>
      </figcaption>
      <div ref={holder} />
    </figure>
  );
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** 24 hours, and the day where it begins. */
function timeTicks(_: uPlot, splits: number[]): string[] {
  let day = '';
  return splits.map((split) => {
    const at = new Date(split * 1000);
    const two = (value: number) => String(value).padStart(2, '0');
    const date = `${two(at.getDate())}.${two(at.getMonth() + 1)}.`;
    const step = splits.length > 1 ? splits[1]! - splits[0]! : 60;
    const time = `${two(at.getHours())}:${two(at.getMinutes())}${step < 60 ? `:${two(at.getSeconds())}` : ''}`;
    const first = date !== day;
    day = date;
    return first ? `${time}\n${date}` : time;
  });
}
