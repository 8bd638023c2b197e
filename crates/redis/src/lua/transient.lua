-- Publishes a body that is in no log.
if is_fenced() then return { 'FENCED' } end
redis.call('PUBLISH', channel, ARGV[8])
return { 'OK' }
