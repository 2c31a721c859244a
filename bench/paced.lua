-- For wrk: every one of 32 connections rests 1 to 4 ms before a request, about 10,000 a second together.
-- Without a rest the 99th percentile is that of a queue which is always full.
function delay()
  return math.random(1, 4)
end
