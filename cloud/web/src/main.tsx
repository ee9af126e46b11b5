import { render } from 'preact';

import { adoptToken } from './api/session.ts';
import { App } from './app.tsx';
import './style.css';

// Before anything reads the address.
adoptToken();
render(<App />, document.getElementById('app')!);
