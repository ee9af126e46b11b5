// Why so plain: the built files are committed and compared byte for byte, so nothing here may
// depend on the day, the machine or the directory.
import { defineConfig } from 'vite';

export default defineConfig({
  base: '/',
  build: {
    target: 'es2022',
    // Everything is a file of its own: the page's policy forbids inlined scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000,
    sourcemap: false,
    reportCompressedSize: false,
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8081' } },
});
