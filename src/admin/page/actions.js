// What an operator can do, if the server allows it. Each action is confirmed first.

import { post } from './api.js';
import { $, el, setText } from './dom.js';

const NOTICE_TIME = 6_000;

let allowed = [];
let noticeTimer;
/** Shows the view again, because something has changed. */
let refresh = () => {};

export function setActions(names, changed) {
  allowed = names;
  refresh = changed;
}

/** A button; null if the server does not allow the action. */
export function actionButton(action, label, question, parameters, done) {
  if (!allowed.includes(action)) return null;
  const button = el('button', { type: 'button', className: 'danger quiet' }, label);
  // Tables compare their cells: buttons for different entries must differ.
  button.dataset.for = JSON.stringify(parameters);
  button.addEventListener('click', () => ask(action, label, question, parameters, done));
  return button;
}

function ask(action, label, question, parameters, done) {
  const dialog = $('confirm');
  setText($('question'), question);
  setText($('do'), label);
  dialog.returnValue = 'no';
  dialog.onclose = async () => {
    if (dialog.returnValue !== 'yes') return;
    try {
      notify(done(await post(action, parameters)), false);
    } catch (error) {
      notify(error.message, true);
    }
    refresh();
  };
  dialog.showModal();
}

/** Shows the result of an action. */
function notify(text, isError) {
  const notice = $('notice');
  notice.classList.toggle('bad', isError);
  notice.hidden = false;
  setText(notice, text);
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { notice.hidden = true; }, NOTICE_TIME);
}
