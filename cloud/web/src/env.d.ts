/// <reference types="vite/client" />

// MapLibre built for strict content policies: its worker is a file, not a blob.
declare module 'maplibre-gl/dist/maplibre-gl-csp.js' {
  import maplibregl from 'maplibre-gl';
  export default maplibregl;
}
