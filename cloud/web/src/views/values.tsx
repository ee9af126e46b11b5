// The values of a device's newest record, with names and units.

import type { Value } from '../api/types.ts';
import * as format from '../core/format.ts';

export function shownValue(value: Value): string {
  if (value.text !== null) return value.value === null ? value.text : `${value.value} (${value.text})`;
  if (value.value !== null) return `${value.value}${value.unit ? ` ${value.unit}` : ''}`;
  return typeof value.raw === 'string' || typeof value.raw === 'number' ? String(value.raw) : JSON.stringify(value.raw ?? null);
}

export function ValueTable({ values, time, event }: { values: Value[]; time: string | null; event: string | null }) {
  if (values.length === 0) return <p class="quiet">Its newest record has no values beside the position.</p>;
  return (
    <table class="values">
      <caption>
        Newest record{time ? `, ${format.moment(time)}` : ''}
        {event ? `, sent because of ${event.replaceAll('_', ' ')}` : ''}
      </caption>
      <thead>
        <tr>
          <th scope="col">Value</th>
          <th scope="col" class="number">
            Reads
          </th>
          <th scope="col" class="number">
            IO id
          </th>
        </tr>
      </thead>
      <tbody>
        {values.map((value) => (
          <tr key={`${value.io_id} ${value.name}`}>
            <th scope="row">{value.name.replaceAll('_', ' ')}</th>
            <td class="number">{shownValue(value)}</td>
            <td class="number quiet">{value.io_id ?? ''}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
