"""The catalogue of the service: data sets, products, licences."""
