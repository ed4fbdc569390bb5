"""The APIs of other servers, as far as their clients caption images with them."""
