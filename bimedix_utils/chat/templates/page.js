() => {
  // Every field takes the direction of its text. The page follows a growing answer unless the
  // reader has scrolled up.
  document.documentElement.lang = 'en';
  document.querySelectorAll('textarea').forEach(field => {
    field.dir = 'auto';
    field.setAttribute('aria-label', 'MESSAGE');
  });
  let atEnd = true;
  const box = () => document.querySelector('#bimedix-talk .html-container');
  document.addEventListener('scroll', event => {
    if (event.target === box())
      atEnd = box().scrollHeight - box().scrollTop - box().clientHeight < 60;
  }, true);
  document.addEventListener('click', event => {
    if (event.target.closest('#bimedix-send')) atEnd = true;
  });
  new MutationObserver(() => { if (atEnd && box()) box().scrollTop = box().scrollHeight; })
    .observe(document.body, {childList: true, subtree: true, characterData: true});
}
