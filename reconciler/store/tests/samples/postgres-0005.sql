-- Rows as the fifth migration can hold them. Never edited.

UPDATE requests SET pull = '{"number":4,"url":"https://forge.example/4","plan":"000000000000000000000000000000000000a001","state":{"kind":"merged","commit":"00000000000000000000000000000000000000c8","by":"ann"},"base":"main","head":"chiffon/plan/kuma","head_commit":null,"foreign":false,"carried":true,"approved_by":["ben"],"may_write":true,"denied":0,"shown":"a digest","heard":12,"answers":[{"comment":12,"to":"ann","done":true,"text":"done"}]}' WHERE name = 'kuma';
