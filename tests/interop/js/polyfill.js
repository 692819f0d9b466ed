// Node 20 lacks Promise.withResolvers, which libp2p uses. Load this first: node --import ./polyfill.js

Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
